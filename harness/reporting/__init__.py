"""Records, tables and figures: pandas, without torch and ray."""

"""Where and when the work runs: in this process or on Ray actors."""

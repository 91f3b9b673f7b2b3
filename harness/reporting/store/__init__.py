"""Files of a run: manifest, records, curves."""

"""Settings of a run: schema, presets, precedence, validation, sweep files."""

"""Workers and learners as Ray actors."""

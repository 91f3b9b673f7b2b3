"""Workers and learner as Ray actors."""

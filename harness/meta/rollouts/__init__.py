"""Episodes of a policy on a batch of tasks, and the batches made from them."""

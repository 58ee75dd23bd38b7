"""A model over many files: batches, processes, and a journal of what is done."""

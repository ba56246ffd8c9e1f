"""What can be trained: one file per task, one `Task` from each."""

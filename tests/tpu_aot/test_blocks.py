"""One block of each resolution, as the planner compiles it."""

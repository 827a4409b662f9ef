"""What shows a model and its images: an explorer with a slider, and sheets of pictures."""

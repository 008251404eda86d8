"""Published numbers of each model for each dataset."""

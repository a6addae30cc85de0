"""What `experiments.train` is made of, in the order in which it is used."""

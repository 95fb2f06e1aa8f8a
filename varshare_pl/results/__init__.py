"""Reading a run's files and plotting them; needs neither torch nor Lightning."""

"""One module for each place where accounts can live."""

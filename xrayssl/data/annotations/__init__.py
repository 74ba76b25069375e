"""What the tables of corpora say of their films: patients, labels, boxes."""

"""Where a network looks: maps for statistics (`cam`), and pictures for eyes (`overlay`)."""

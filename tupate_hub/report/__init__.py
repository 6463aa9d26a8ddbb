"""Reports: pages and pictures made from a registry alone."""

"""How Django writes times where it has its own way: by language."""

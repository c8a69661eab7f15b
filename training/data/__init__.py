"""Users' histories as flat arrays, their readers, and the packed windows that sequence models train on."""

"""Draw the tables of a database and their foreign keys, as SVG or as Mermaid.

model      the tables and their foreign keys, from the catalog
layers     assign the tables to layers, and order each layer so that few lines cross
layout     place the boxes and the lines between them
svg        write the picture as SVG
mermaid    write the model for Mermaid, which lays it out itself
picture    the result, for a person and for a program
"""

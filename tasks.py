import pgtasks

ns = pgtasks.namespace(__file__)

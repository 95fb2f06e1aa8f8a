"""The package from Python: the functions and classes that ``import varshare_pl`` gives."""

"""The same core and the same main path on another clock and among other neighbours: for trying out, not for acting."""

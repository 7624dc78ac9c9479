"""How vodbucket is run; never part of the wheel."""

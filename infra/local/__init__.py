"""`make run`: the whole product on one machine, from a checkout, with an embedded store."""

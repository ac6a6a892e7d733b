"""``report``: what a run brought, as one HTML page that needs nothing else.

The page is made in three steps that know nothing of each other's insides: ``facts`` reads the directory (the ledger,
and of the rows only what it counts as committed), ``document`` makes HTML of the facts (pure), ``writing`` puts it in
its place. Everything in it is bounded, so that a night of a million videos gives a page that a browser still opens at
once; what is left out is said on the page.
"""

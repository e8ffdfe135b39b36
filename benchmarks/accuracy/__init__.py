"""How much of the true descent comes out of the weights: `scripts/accuracy`.

truth.py reads what is true, sets.py finds or makes the collections, sketching.py crawls them once, solving.py and
peers.py answer, score.py compares, printing.py and reliability.py show.
"""

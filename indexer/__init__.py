"""Who descends from whom: shortlist, distances, direction, components, and the minimum directed spanning tree."""

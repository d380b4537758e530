"""The stages of a compression, in order: open, profile, score, allocate, cut, recover, build, measure, bundle."""

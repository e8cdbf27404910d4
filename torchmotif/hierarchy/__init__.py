"""From labelled columns to the larger and larger motifs that they build."""

"""Whether this host is fit to give containers its GPUs: a module a check, a value a finding (`oci-gpu doctor`)."""

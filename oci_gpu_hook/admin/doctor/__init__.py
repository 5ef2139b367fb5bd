"""Checks whether this host can give containers its GPUs (`oci-gpu doctor`), with one module for each check."""

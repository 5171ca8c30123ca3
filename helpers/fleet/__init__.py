"""Many runs of runbooks: warm kernels, fleet files, canary and waves, one report."""

"""``hwnas run``: the steps, from a device and a data set to a benchmarked network and a report."""

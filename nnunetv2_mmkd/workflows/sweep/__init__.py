"""Sweeps: methods x folds x seeds x missing rates from one small file, here or on a cluster, ending in tables.

``definition`` reads the file, ``checks`` compares it with what is installed and on disk, ``tasks`` says which processes
are needed and when each is finished, ``process`` runs one of them (under ``guard``), ``local`` and ``cluster`` many,
``tables`` pools the seeds, ``run`` puts it together.
"""

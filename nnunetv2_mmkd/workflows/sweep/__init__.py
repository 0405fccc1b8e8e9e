"""Sweeps: methods x folds x seeds x missing rates from one small file, here or on a cluster, ending in tables.

``definition`` reads the file, ``checks`` holds it against what is installed, ``tasks`` says which processes that are
and when each is finished, ``process`` runs one of them, ``local`` and ``cluster`` run many, ``tables`` pools the seeds,
``run`` puts it together.
"""

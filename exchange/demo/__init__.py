"""The example city: invented residents, companies and dwellings on the real divisions of Shenzhen, and its run.

`city` is what is true, `stores` how eight departments happen to write it down, `truth` what each claim should be
answered, `build` a directory with keys, certificates and the signed directory, `run` the processes and the journey.
"""

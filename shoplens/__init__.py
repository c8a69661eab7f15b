"""What every folder shares: settings, parameters, exceptions, digests, the stage guard and the command line.

Nothing here knows an event, a feature or a model; nothing here imports another folder of the project. The command
line loads the folder that answers a command only when that command is called.
"""

"""The settings of a project: files, variables, layers, environments, targets. Only values.

fields       declare and check settings
yamlfile     YAML files
variables    dotenv files and the variables of the process
libpq        URLs and variables of libpq
git          the branch of a git checkout
secret       a password that prints as ***
security     how an application handles logins and sessions
ssh          the login to the database host of an environment
blocks       the settings of an environment: one record for each block
project      a project: its folders and settings files
layers       the layers of an environment
environment  an environment, merged from its layers
differences  what differs between two states of an environment
target       the address of an environment's database
selection    choose the environment of a task
views        the output of env.list, env.show and env.status
"""

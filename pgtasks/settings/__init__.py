"""What a project says: files, variables, layers, an environment, a target. Values alone.

fields       how a setting is declared and checked
yamlfile     YAML files
variables    dotenv files and the variables of the process
libpq        URLs and variables of libpq
secret       a text that prints as ***
ssh          what an environment says of its database host
blocks       what an environment can say: one record for each block
project      a project: its folder and its settings
layers       which file says what
environment  an environment, all layers folded
target       where an environment's database lives
selection    which environment a task works on
views        what env.list, env.show and env.status print
"""

-- Organizations of the partition in which somebody is registered.
return call('SMEMBERS', WITH_REGISTRY)

-- A known one: a full store must take it, or its slots could never be free again.
return keep()

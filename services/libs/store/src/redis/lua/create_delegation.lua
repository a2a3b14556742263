-- A new one: refused by a full store.
return keep()

-- A new one, or one with more in its context: refused by a full store.
return keep()

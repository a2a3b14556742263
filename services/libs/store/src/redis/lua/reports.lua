-- What daemons say of themselves. KEYS[1] is `m:{pNNNN}`. `n` holds it by orchestrator: status and its words, presence and
-- its words, last heartbeat, and who is registered since when with what; `o` the metrics, newest first.
local function key_of(mailbox, kind) return KEYS[1] .. ':' .. mailbox .. ':' .. kind end

local function remember(mailbox) call('PEXPIRE', key_of(mailbox, 'n'), @REMEMBERED) end

local FIELDS = {'status', 'message', 'presence', 'presence_text', 'heartbeat', 'instance', 'info', 'at'}

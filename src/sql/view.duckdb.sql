
-- What came of each connection: the same finding as `dunnat path`.
--
-- A flow is what NAT does not change: protocol, client, guest. In it TCP's initial sequence number tells one connection from the
-- next; what has none is parted by its original destination. Events of a node are in the order of its runs, and of their numbers;
-- those of several nodes in the order of the nodes' names, as `dunnat path` has them when each node has a file of its own.
--
-- What is not here: why it is so (`dunnat path` says that, and draws it), and what only somebody who knows can say (--guest-on).

-- Who holds what. One process has this database, so it needs no listener: the locks are beside it.

CREATE VIEW held AS
  SELECT fence, app, resource, principal, socket_id, context,
         CASE WHEN instr(topic, '/') > 0 THEN substr(topic, 1, instr(topic, '/') - 1) ELSE topic || 'Locked' END AS event,
         acquired_at AS since
    FROM lock WHERE state <> 'released';

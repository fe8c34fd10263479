-- The table of soketi's documentation, with one application.
CREATE TABLE apps (
    id varchar(255) NOT NULL PRIMARY KEY,
    key varchar(255) NOT NULL,
    secret varchar(255) NOT NULL,
    max_connections integer NOT NULL,
    enable_client_messages smallint NOT NULL,
    enabled smallint NOT NULL,
    max_backend_events_per_sec integer NOT NULL,
    max_client_events_per_sec integer NOT NULL,
    max_read_req_per_sec integer NOT NULL,
    webhooks json
);
INSERT INTO apps VALUES ('shop', 'shop-key', 'a-long-random-text', 200, 1, 1, -1, -1, -1,
    '[{"url": "https://shop.example/pusher", "event_types": ["channel_vacated"]}]');

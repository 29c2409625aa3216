/** What the doors count of connections that do not become lines, or end at one; the parent adds it up over its workers. */

/** Connections that were not let in or were cut off; counters of the status file. */
export const SERVER_COUNTERS = [
  'connections_refused_full_count',
  'connections_refused_limits_count',
  'connections_without_proxy_header_count',
  'connections_without_tls_count',
  'connections_unread_count',
] as const;
export type Counts = Record<(typeof SERVER_COUNTERS)[number], number>;

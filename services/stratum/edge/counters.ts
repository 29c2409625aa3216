/** Connections that were not let in or were cut off, as server.ts and line.ts count them: counters of the status file, which the parent adds up over its workers. */
export const SERVER_COUNTERS = [
  'connections_refused_full_count',
  'connections_refused_limits_count',
  'connections_without_proxy_header_count',
  'connections_without_tls_count',
  'connections_unread_count',
] as const;
export type Counts = Record<(typeof SERVER_COUNTERS)[number], number>;

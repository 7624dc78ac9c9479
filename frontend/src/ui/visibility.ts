/** Who may see something, from the fewest to the most. */
export const VISIBILITIES = [
  { value: 'private', name: 'Private' },
  { value: 'internal', name: 'Signed-in people' },
  { value: 'public', name: 'Public' },
] as const;

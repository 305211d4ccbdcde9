export const handler = (event) => event;

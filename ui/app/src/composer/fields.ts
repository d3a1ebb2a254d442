import type { SettingName } from "./settings";

export type FieldErrors = Partial<Record<SettingName, string>>;
/** `undefined` leaves the setting to the model. */
export type Change = (name: SettingName, value: string | undefined) => void;

export function fieldId(name: SettingName): string {
  return `field-${name}`;
}

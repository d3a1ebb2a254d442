import type { ReactNode } from "react";
import { AlertIcon } from "./icons";

interface FieldProps {
  id: string;
  label: string;
  error: string | undefined;
  className?: string;
  /** Stands right of the label. */
  aside?: ReactNode;
  children: ReactNode;
}

/** What a control needs so that a screen reader says what is wrong with it. */
export function errorAttributes(id: string, error: string | undefined) {
  return error === undefined ? {} : { "aria-invalid": true, "aria-describedby": `${id}-error` };
}

/** A labelled control with its error beneath it. */
export function Field({ id, label, error, className, aside, children }: FieldProps) {
  return (
    <div className={className === undefined ? "field" : `field ${className}`}>
      <div className="field-head">
        <label htmlFor={id}>{label}</label>
        {aside}
      </div>
      {children}
      {error !== undefined && (
        <p className="field-error" id={`${id}-error`}>
          <AlertIcon />
          {error}
        </p>
      )}
    </div>
  );
}

-- Appointments, consultations and invoices of one visit that name different patients. No foreign
-- key says that they are the same: each of the three refers to a patient of the hospital by itself.
SELECT consultation_id, appointments.patient_id AS appointed, consultations.patient_id AS consulted,
    invoices.patient_id AS invoiced
FROM public.consultations
JOIN public.appointments USING (appointment_id)
LEFT JOIN public.invoices USING (consultation_id)
WHERE appointments.patient_id <> consultations.patient_id
    OR invoices.patient_id <> consultations.patient_id;
